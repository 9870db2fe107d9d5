# Reports: a page of tables and figures, of what pruning drops, and of how all of it was made.
rule report_page:
    input:
        upstream,
    output:
        page=RESULTS / "reports" / "{id}" / "report.html",
        record=RESULTS / "reports" / "{id}" / "record.json",
    log:
        RESULTS / "reports" / "{id}" / "job.log",
    localrule: True
    message:
        "Report {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/reports/{wildcards.id}/spec.json --log {log}"


rule report_target:
    """The file people ask for is a copy of the configured preset's report."""
    input:
        report_of_target,
    output:
        report("results/report.html", caption="../report/page.rst", category="Report"),
    localrule: True
    params:
        report=lambda wildcards: str(report_of_target(wildcards)),  # another report is another copy
    shell:
        "{COPY} {input} {output}"
