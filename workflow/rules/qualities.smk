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
