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


# Some images of a large generated pool. They stay in the stage's partial/, where rule pool finds them.
rule pool_part:
    input:
        upstream,
    output:
        temp(RESULTS / "pools" / "{id}" / "parts" / "{start}-{stop}.json"),
    log:
        RESULTS / "pools" / "{id}" / "parts" / "{start}-{stop}.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
    message:
        "Drawing images {wildcards.start} to {wildcards.stop} of {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/pools/{wildcards.id}/spec.json --rows {wildcards.start}:{wildcards.stop}"
        " --threads {threads} --log {log}"
