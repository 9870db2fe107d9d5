# Figures: pictures, each with its data and a caption that checks what the paper says of it.
rule figure:
    input:
        upstream,
    output:
        figure=RESULTS / "figures" / "{id}" / "figure.svg",
        data=RESULTS / "figures" / "{id}" / "figure.csv",
        caption=RESULTS / "figures" / "{id}" / "caption.md",
        record=RESULTS / "figures" / "{id}" / "record.json",
    log:
        RESULTS / "figures" / "{id}" / "job.log",
    localrule: True
    message:
        "Figure {wildcards.id}"
    shell:
        "{RUN} {RESULTS}/figures/{wildcards.id}/spec.json --log {log}"


rule figure_target:
    """The files people ask for are copies of the configured preset's figure."""
    input:
        figure_of_target,
    output:
        figure=report(
            "results/{figure}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "form": "picture"},
        ),
        data="results/{figure}.csv",
        caption=report(
            "results/{figure}.md",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "form": "caption"},
        ),
    wildcard_constraints:
        figure=FIGURES,
    localrule: True
    params:
        figure=lambda wildcards: str(figure_of_target(wildcards)[0]),  # another figure is another copy
    shell:
        "{COPY} {input[0]} {output.figure} && copy {input[1]} {output.data} && copy {input[2]} {output.caption}"
