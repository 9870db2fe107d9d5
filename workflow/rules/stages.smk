# A stage of any kind is done by one command in one directory. There is a rule for each kind that the package declares:
# the rules differ in name, in the files that people may ask for, and in where they run.
for KIND in KINDS:

    rule:
        name:
            KIND.rule
        input:
            upstream,
            parts,
        output:
            *(RESULTS / KIND.name / "{id}" / file for file in KIND.files),
            record=RESULTS / KIND.name / "{id}" / "record.json",
        log:
            RESULTS / KIND.name / "{id}" / "job.log",
        localrule: KIND.local
        threads: resource("threads")
        resources:
            mem_mb=growing("mem_mb"),
            runtime=growing("runtime"),
            gpu=resource("gpu"),
            nodes=1,  # several GPUs are those of one machine
        message:
            KIND.rule.replace("_", " ") + " {wildcards.id}"
        shell:
            "{RUN} $(dirname {output.record}) --threads {threads} --log {log}"


# Some rows of a large stage. What it makes stays in the stage's partial/, where the rule of its kind goes on.
rule part:
    input:
        upstream,
    output:
        temp(RESULTS / "{kind}" / "{id}" / "parts" / "{start}-{stop}.json"),
    log:
        RESULTS / "{kind}" / "{id}" / "parts" / "{start}-{stop}.log",
    wildcard_constraints:
        kind="|".join(kind.name for kind in KINDS),
    threads: resource("threads")
    resources:
        mem_mb=growing("mem_mb"),
        runtime=growing("runtime"),
        gpu=resource("gpu"),
    message:
        "images {wildcards.start} to {wildcards.stop} of {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/{wildcards.kind}/{wildcards.id} --rows {wildcards.start}:{wildcards.stop}"
        " --threads {threads} --log {log}"


ruleorder: pull > score


# A score that a shared store has is pulled where Snakemake runs, since compute nodes often have no network.
rule pull:
    input:
        upstream,
    output:
        record=RESULTS / "scores" / "{id}" / "record.json",
    log:
        RESULTS / "scores" / "{id}" / "job.log",
    wildcard_constraints:
        id="|".join(PLAN.pulls) or "(?!)",  # nothing
    localrule: True
    message:
        "pull {wildcards.id}"
    shell:
        "{ROBUSTPRUNE} store pull {RESULTS}/scores/{wildcards.id}/spec.json --log {log}"
