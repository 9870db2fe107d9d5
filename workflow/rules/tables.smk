# Tables: ours and the printed numbers side by side.
rule table:
    input:
        upstream,
    output:
        table=RESULTS / "tables" / "{id}" / "table.csv",
        markdown=RESULTS / "tables" / "{id}" / "table.md",
        latex=RESULTS / "tables" / "{id}" / "table.tex",
        record=RESULTS / "tables" / "{id}" / "record.json",
    log:
        RESULTS / "tables" / "{id}" / "job.log",
    localrule: True
    message:
        "Table {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/tables/{wildcards.id}/spec.json --log {log}"


ruleorder: quality_target > target


rule target:
    """The files people ask for are copies of the configured preset's table."""
    input:
        table_of_target,
    output:
        table=report(
            "results/{target}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{target}", "form": "CSV"},
        ),
        markdown=report(
            "results/{target}.md",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{target}", "form": "with claims"},
        ),
        latex="results/{target}.tex",
    wildcard_constraints:
        target=rf"(?!{RESULTS.name}/|(?:{FIGURES})\.).+",  # neither a stage's own table nor a figure's data
    localrule: True
    params:
        table=lambda wildcards: str(table_of_target(wildcards)[0]),  # another table is another copy
    shell:
        "{COPY} {input[0]} {output.table} && copy {input[1]} {output.markdown} && copy {input[2]} {output.latex}"
