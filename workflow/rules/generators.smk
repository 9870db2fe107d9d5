# Generators: an EDM trained on a real pool.
rule generator:
    input:
        upstream,
    output:
        record=RESULTS / "generators" / "{id}" / "record.json",
    log:
        RESULTS / "generators" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
        nodes=1,  # several GPUs are those of one machine
    message:
        "Training generator {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/generators/{wildcards.id}/spec.json --threads {threads} --log {log}"
