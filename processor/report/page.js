// Adds to a page that says everything without it: charts that answer the pointer, tables that sort, a button to copy.

function drawCharts() {
  const embed = window.vegaEmbed;
  const element = document.getElementById("charts");
  if (!embed || !element) return;
  for (const [name, spec] of Object.entries(JSON.parse(element.textContent))) {
    const drawing = document.getElementById(`drawing-${name}`);
    if (!drawing) continue;
    const live = document.createElement("div");
    live.style.width = "100%";
    const still = drawing.firstElementChild;
    drawing.append(live);
    spec.width = "container";
    // `ast`: expressions are interpreted, so that a Content-Security-Policy without unsafe-eval lets them work.
    embed(live, spec, { actions: false, renderer: "svg", ast: true }).then(
      () => still && still.remove(),
      (error) => { live.remove(); console.error(name, error); },
    );
  }
}

function searchTables() {
  const Table = window.dataTables && window.dataTables.default;
  if (!Table) return;
  for (const table of document.querySelectorAll("table.searched")) {
    const caption = table.caption ? table.caption.textContent : "table";
    const few = table.tBodies[0].rows.length <= 10;
    new Table(table, {
      order: [],
      autoWidth: false,
      paging: !few,
      pageLength: 10,
      lengthMenu: [10, 25, 100, { label: "all", value: -1 }],
      layout: {
        topStart: few ? null : "pageLength",
        topEnd: { search: { text: "Search: " } },
        bottomStart: { info: {}, buttons: [{ extend: "csv", text: "Save as CSV", filename: caption }] },
      },
    });
  }
}

function addCopyButtons() {
  if (!navigator.clipboard) return;
  for (const command of document.querySelectorAll(".command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    const text = command.querySelector("code").textContent;
    button.addEventListener("click", () => navigator.clipboard.writeText(text).then(() => { button.textContent = "Copied"; }));
    command.append(button);
  }
}

// What is folded away on the screen is not printed: open it for as long as the print takes.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")].filter((details) => !details.closest("figure"));
  for (const details of opened) details.open = true;
});
window.addEventListener("afterprint", () => { for (const details of opened) details.open = false; });

addCopyButtons();
searchTables();
drawCharts();
