# Manifests: which rows of which pools are kept, and with what radius each is attacked.
rule manifest:
    input:
        upstream,
    output:
        record=RESULTS / "manifests" / "{id}" / "record.json",
    log:
        RESULTS / "manifests" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
    message:
        "Pruning {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/manifests/{wildcards.id}/spec.json --threads {threads} --log {log}"
