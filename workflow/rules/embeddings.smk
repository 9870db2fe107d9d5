# Embeddings: what an image is described by when its nearest neighbours are looked for.
rule embedding:
    input:
        upstream,
        parts,
    output:
        record=RESULTS / "embeddings" / "{id}" / "record.json",
    log:
        RESULTS / "embeddings" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
    message:
        "Embedding {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/embeddings/{wildcards.id}/spec.json --threads {threads} --log {log}"
