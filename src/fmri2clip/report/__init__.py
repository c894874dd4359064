"""The report: what was read (inputs), what is said (sections, results, ...), how it is rendered
(html, markdown).
"""

from fmri2clip.report.write import write_report

__all__ = ["write_report"]
