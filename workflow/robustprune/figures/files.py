"""What every figure leaves: the picture, the numbers in it, and what it shows in words."""

import pandas as pd
from matplotlib.figure import Figure

from robustprune.files import replacing, write_text
from robustprune.job import Job

FIGURE_FILE, DATA_FILE, CAPTION_FILE = "figure.svg", "figure.csv", "caption.md"


def publish_figure(job: Job, figure: Figure, data: pd.DataFrame, caption: list[str]) -> None:
    """Publish a figure as SVG, its data as CSV, and its caption, a sentence a paragraph."""
    with replacing(job.partial / FIGURE_FILE) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    with replacing(job.partial / DATA_FILE) as temporary:
        data.to_csv(temporary, index=False, lineterminator="\n")
    write_text(job.partial / CAPTION_FILE, "\n\n".join(caption) + "\n")
    job.publish(FIGURE_FILE, DATA_FILE, CAPTION_FILE)
