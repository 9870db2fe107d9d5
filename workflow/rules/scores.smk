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


# Some rows of a large pool. What it measures stays in the stage's partial/, where rule score finds it.
rule score_part:
    input:
        upstream,
    output:
        temp(RESULTS / "scores" / "{id}" / "parts" / "{start}-{stop}.json"),
    log:
        RESULTS / "scores" / "{id}" / "parts" / "{start}-{stop}.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
    message:
        "Scoring images {wildcards.start} to {wildcards.stop} of {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/scores/{wildcards.id}/spec.json --rows {wildcards.start}:{wildcards.stop}"
        " --threads {threads} --log {log}"
