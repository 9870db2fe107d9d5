# Quality: how good generated images are, in the eyes of a classifier that saw none.
rule quality:
    input:
        upstream,
    output:
        RESULTS / "qualities" / "{id}" / "record.json",
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
        lambda wildcards: str(quality_table().with_name("record.json")),
    output:
        "results/quality.csv",
    localrule: True
    params:
        table=lambda wildcards: str(quality_table()),  # another table is another copy
    shell:
        "{COPY} {params.table} {output}"
