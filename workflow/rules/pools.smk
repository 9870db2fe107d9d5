# Pools: images ingested from files, or drawn from a generator.
rule pool:
    input:
        upstream,
        parts,
    output:
        record=RESULTS / "pools" / "{id}" / "record.json",
    log:
        RESULTS / "pools" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
    message:
        "Pool {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/pools/{wildcards.id}/spec.json --threads {threads} --log {log}"
