# Scores: something measured of every image of a pool, such as its margin under a model.
rule score:
    input:
        upstream,
        parts,
    output:
        record=RESULTS / "scores" / "{id}" / "record.json",
    log:
        RESULTS / "scores" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
    message:
        "Scoring {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/scores/{wildcards.id}/spec.json --threads {threads} --log {log}"
