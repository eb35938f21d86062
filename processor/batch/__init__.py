"""Sends jobs through a provider's batch API: the same rows, hours later, at a lower price.

``BatchRun`` is the run. ``draft`` cuts the jobs into batches, ``BatchLog`` is the journal that makes sure that none is
submitted twice, a ``ProviderBatches`` is the API of one provider, ``collection`` turns its results into rows.
"""
