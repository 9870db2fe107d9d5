# The files that people ask for are copies of what the configured preset's stages made. Their parameters name the copied
# stage, so that another table or figure is another copy; Snakemake ignores changes of a param made of the input.
ruleorder: quality_target > target


rule target:
    input:
        table_of_target,
    output:
        table=report(
            "results/{target}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{target}", "form": "CSV"},
        ),
        markdown=report(
            "results/{target}.md",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{target}", "form": "with claims"},
        ),
        latex="results/{target}.tex",
    wildcard_constraints:
        target=rf"(?!{RESULTS.name}/|(?:{FIGURE})\.).+",  # neither a stage's own table nor a figure's data
    localrule: True
    params:
        table=lambda wildcards: str(table_of_target(wildcards)[0]),
    shell:
        "{COPY} {input[0]} {output.table} && copy {input[1]} {output.markdown} && copy {input[2]} {output.latex}"


rule figure_target:
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
        figure=FIGURE,
    localrule: True
    params:
        figure=lambda wildcards: str(figure_of_target(wildcards)[0]),
    shell:
        "{COPY} {input[0]} {output.figure} && copy {input[1]} {output.data} && copy {input[2]} {output.caption}"


rule quality_target:
    input:
        lambda _: behind("results/quality.csv") / "record.json",
    output:
        "results/quality.csv",
    localrule: True
    params:
        table=lambda _: str(behind("results/quality.csv") / "table.csv"),
    shell:
        "{COPY} {params.table} {output}"


rule report_target:
    input:
        lambda _: behind("results/report.html") / "report.html",
    output:
        report("results/report.html", caption="../report/page.rst", category="Report"),
    localrule: True
    params:
        report=lambda _: str(behind("results/report.html") / "report.html"),
    shell:
        "{COPY} {input} {output}"
