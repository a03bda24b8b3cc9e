"""The commands of audits: draw what people look at, show it to them, and say what they found."""

from __future__ import annotations

from pathlib import Path

from tutelage.cli.production import extra


def draw(
    database: str,
    verdicts: int = 200,
    weeks: tuple[str, ...] = (),
    impressions: Path | None = None,
    overlap: float = 0.1,
    run: Path | None = None,
    seed: int = 0,
) -> None:
    """Draw a sample of what passed, by impressions, for moderators to judge.

    Args:
        database: Decision log: SQLite file, or a URL as postgresql://user@host/name.
        verdicts: Budget: number of verdicts to ask for.
        weeks: ISO weeks as [2026-W07,2026-W08]; by default all past weeks not drawn yet.
        impressions: CSV or Parquet file with columns id, week and impressions, to be added to the log first.
        overlap: Share of the advertisements that two moderators judge, to measure their agreement.
        run: Folder of a moderation run, whose most doubtful labels are sent to the moderators instead of a sample.
        seed: Seed of the draw.
    """
    with extra("serve"):
        from tutelage.production.audits import draw as drawn
        from tutelage.production.audits import draw_doubts
        from tutelage.production.decisions import DecisionLog
        from tutelage.production.impressions import add_impressions
    with DecisionLog(database) as log:
        if impressions is not None:
            print(add_impressions(log, impressions))
        if run is not None:
            print(draw_doubts(log.database, run, verdicts, seed=seed).summary())
        else:
            print(drawn(log.database, verdicts, weeks, overlap=overlap, seed=seed).summary())


def serve(database: str, images: Path, host: str = "127.0.0.1", port: int = 8090, token: str | None = None) -> None:
    """Serve the page on which moderators judge, until it is stopped; its link is printed.

    Args:
        database: Decision log: SQLite file, or a URL as postgresql://user@host/name.
        images: Folder that contains the images of the decisions.
        host: Address to listen on; 0.0.0.0 admits other machines; use it behind a proxy that encrypts.
        port: Port to listen on.
        token: Token that moderators must give; by default TUTELAGE_TOKEN, or a fresh, printed one. none admits everybody.
    """
    with extra("serve"):
        from tutelage.production import audit_server
        from tutelage.production.decisions import DecisionLog
    with DecisionLog(database) as log:
        audit_server.serve(log.database, images, host, port, token)


def report(database: str, out: Path = Path("audit"), incumbent: str | None = None) -> None:
    """Say what all audits so far have found, and write the verdicts as a manifest to train on.

    Args:
        database: Decision log: SQLite file, or a URL as postgresql://user@host/name.
        out: Folder to write: report.html, report.json, tables as CSV, verdicts.csv and labels.csv.
        incumbent: Variant that others are compared with; by default incumbent, as `tutelage serve` names it, or else the one
            that was there first.
    """
    with extra("serve"):
        from tutelage.production.audit_report import (
            closing,
            drawn_of_what_passed,
            table3,
            write_audit_report,
            write_judged_again,
        )
        from tutelage.production.decisions import DecisionLog
        from tutelage.reports.wording import pluralise
    with DecisionLog(database) as log:
        if judged_again := write_judged_again(log.database, out):
            print(f"{pluralise(judged_again, 'label that was', 'labels that were')} judged again: {out / 'labels.csv'}")
            if not drawn_of_what_passed(log.database):
                return
        found = write_audit_report(log.database, out, incumbent)
    print("\n".join([*([table3(found)] if found["table3"] else []), *closing(found), f"report: {out / 'report.html'}"]))
