# Layouts: images in a plane, and how their classes lie.
rule layout:
    input:
        upstream,
    output:
        record=RESULTS / "layouts" / "{id}" / "record.json",
    log:
        RESULTS / "layouts" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
    message:
        "Laying out {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/layouts/{wildcards.id}/spec.json --threads {threads} --log {log}"
