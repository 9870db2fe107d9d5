# Tables: ours and the printed numbers side by side.
rule table:
    input:
        upstream,
    output:
        table=RESULTS / "tables" / "{id}" / "table.csv",
        record=RESULTS / "tables" / "{id}" / "record.json",
    log:
        RESULTS / "tables" / "{id}" / "job.log",
    localrule: True
    message:
        "Table {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/tables/{wildcards.id}/spec.json --log {log}"


rule target:
    """The file people ask for is a copy of the configured preset's table."""
    input:
        table_of_target,
    output:
        "results/{target}.csv",
    wildcard_constraints:
        target=f"(?!{RESULTS.name}/).+",  # a stage's own table is not a copy
    localrule: True
    shell:
        "cp {input} {output}"
