# Galleries: how scores are spread, what is pruned of them, and images of each part.
rule gallery:
    input:
        upstream,
    output:
        RESULTS / "galleries" / "{id}" / "record.json",
    log:
        RESULTS / "galleries" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
    message:
        "Gallery {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/galleries/{wildcards.id}/spec.json --threads {threads} --log {log}"
