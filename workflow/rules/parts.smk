# Parts: some rows of a large pool, score or evaluation. What it makes stays in the stage's partial/, where its rule goes on.
rule part:
    input:
        upstream,
    output:
        temp(RESULTS / "{kind}" / "{id}" / "parts" / "{start}-{stop}.json"),
    log:
        RESULTS / "{kind}" / "{id}" / "parts" / "{start}-{stop}.log",
    wildcard_constraints:
        kind="pools|scores|evaluations",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
    message:
        "Images {wildcards.start} to {wildcards.stop} of {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/{wildcards.kind}/{wildcards.id}/spec.json --rows {wildcards.start}:{wildcards.stop}"
        " --threads {threads} --log {log}"
