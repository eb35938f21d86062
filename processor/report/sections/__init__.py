"""The sections of the page, in their order. A new one needs its file and its line here."""

from __future__ import annotations

from collections.abc import Callable

from processor.report.data import ReportData, Section
from processor.report.sections.extremes import extremes_section
from processor.report.sections.failed_jobs import failed_jobs_section
from processor.report.sections.files import files_section
from processor.report.sections.latency import latency_section
from processor.report.sections.limits import limits_section
from processor.report.sections.models import models_section
from processor.report.sections.overview import overview_section
from processor.report.sections.refusals import refusals_section
from processor.report.sections.runs import runs_section
from processor.report.sections.sizes import sizes_section
from processor.report.sections.throughput import throughput_section

SECTIONS: tuple[Callable[[ReportData], Section | None], ...] = (
    overview_section,
    throughput_section,
    limits_section,
    latency_section,
    models_section,
    refusals_section,
    failed_jobs_section,
    extremes_section,
    sizes_section,
    runs_section,
    files_section,
)
"""Each returns None where there is nothing to show."""
