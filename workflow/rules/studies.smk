# Studies: models without images, small enough to be understood.
rule study:
    input:
        upstream,
    output:
        record=RESULTS / "studies" / "{id}" / "record.json",
    log:
        RESULTS / "studies" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
    message:
        "Study {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/studies/{wildcards.id}/spec.json --threads {threads} --log {log}"
