# Evaluations: which test images a model gets right, clean and under one attack.
rule evaluation:
    input:
        upstream,
        parts,
    output:
        record=RESULTS / "evaluations" / "{id}" / "record.json",
    log:
        RESULTS / "evaluations" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
    message:
        "Evaluating {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/evaluations/{wildcards.id}/spec.json --threads {threads} --log {log}"
