# Generators: an EDM trained on a real pool.
rule generator:
    input:
        upstream,
    output:
        record=RESULTS / "generators" / "{id}" / "record.json",
    log:
        RESULTS / "generators" / "{id}" / "job.log",
    threads: threads_for("generators")
    resources:
        mem_mb=memory_for("generators"),
        runtime=runtime_for("generators"),
        gpu=gpu_for("generators"),
    message:
        "Training generator {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/generators/{wildcards.id}/spec.json --threads {threads} --log {log}"
