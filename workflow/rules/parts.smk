# Parts: some rows of a large stage. What it makes stays in the stage's partial/, where the rule of its kind goes on.
rule part:
    input:
        upstream,
    output:
        temp(RESULTS / "{kind}" / "{id}" / "parts" / "{start}-{stop}.json"),
    log:
        RESULTS / "{kind}" / "{id}" / "parts" / "{start}-{stop}.log",
    wildcard_constraints:
        kind="pools|embeddings|scores|evaluations",
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
