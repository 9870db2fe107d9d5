# Models: trained on whole pools or on what a manifest keeps of them, or brought in from elsewhere.
rule model:
    input:
        upstream,
    output:
        record=RESULTS / "models" / "{id}" / "record.json",
    log:
        RESULTS / "models" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
        nodes=1,  # several GPUs are those of one machine
    message:
        "Making model {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/models/{wildcards.id}/spec.json --threads {threads} --log {log}"
