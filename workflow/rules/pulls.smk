# Pulls: scores that a shared store has, in place of making them. They run where Snakemake does, since compute nodes often
# reach nothing outside.
ruleorder: pull > score


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
        "Pulling {wildcards.id}"
    shell:
        "{PULL} {RESULTS}/scores/{wildcards.id}/spec.json --log {log}"
