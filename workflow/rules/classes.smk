# Class lists: a hierarchy of many small classes grouped into few large ones.
rule class_list:
    input:
        upstream,
    output:
        record=RESULTS / "classes" / "{id}" / "record.json",
    log:
        RESULTS / "classes" / "{id}" / "job.log",
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpu,
    message:
        "Grouping into classes {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/classes/{wildcards.id}/spec.json --threads {threads} --log {log}"
