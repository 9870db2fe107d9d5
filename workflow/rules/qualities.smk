# Quality: how good generated images are, in the eyes of a classifier that saw none.
rule quality:
    input:
        upstream,
    output:
        table=RESULTS / "qualities" / "{id}" / "table.csv",
        record=RESULTS / "qualities" / "{id}" / "record.json",
    log:
        RESULTS / "qualities" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
    message:
        "Judging {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/qualities/{wildcards.id}/spec.json --threads {threads} --log {log}"


rule quality_target:
    """The file people ask for is a copy of the configured preset's table."""
    input:
        quality_table,
    output:
        "results/quality.csv",
    localrule: True
    shell:
        "cp {input} {output}"
