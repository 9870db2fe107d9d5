# Manifests: which rows of which pools are kept, and with what radius each is attacked.
rule manifest:
    input:
        upstream,
    output:
        record=RESULTS / "manifests" / "{id}" / "record.json",
    log:
        RESULTS / "manifests" / "{id}" / "job.log",
    threads: threads_for("manifests")
    resources:
        mem_mb=memory_for("manifests"),
        runtime=runtime_for("manifests"),
    message:
        "Pruning {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/manifests/{wildcards.id}/spec.json --threads {threads} --log {log}"
