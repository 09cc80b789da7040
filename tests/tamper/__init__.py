"""Every kind of tampering that the verifier is there for, which check has to find it, and whether it does."""

from infra.verifier import Report


def is_found(found_by: str, report: Report) -> bool:
    """Tell whether the check that has to find a tampering is among those that did; reports are read models, too."""
    names = {finding.check for finding in report.findings}
    return found_by in names or (found_by == "read models" and "reports" in names)
