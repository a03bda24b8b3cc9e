"""`tutelage review`: what a person checks after a run."""

from __future__ import annotations

from pathlib import Path

from tutelage.cli.production import extra


def review(
    run_folder: Path, answers: Path | None = None, check: int = 300, database: str | None = None, seed: int = 0
) -> None:
    """Write the page of the labels that a person should check first; draw test images to check, and take answers back.

    Args:
        run_folder: Folder of a finished run of moderate, distill, multilabel or denoise.
        answers: For a moderation run: CSV or Parquet file with columns id and label, such as the completed review/check.csv
            or labels.csv of tutelage audit report; the run's figures, threshold and report then use them.
        check: For a moderation run: number of test images to draw.
        database: For a moderation run: decision log, SQLite file or URL, which sends the drawn images to the page of
            tutelage audit serve, instead of a spreadsheet.
        seed: Seed of the draw.
    """
    from tutelage import recipes
    from tutelage.production import review as reviewing
    from tutelage.reports.wording import pluralise

    recipe = recipes.recipe_of(run_folder)
    if not recipe.decides and (answers is not None or database is not None):
        name = "answers" if answers is not None else "database"
        raise ValueError(
            f"{name}={str(answers or database)!r}: a run of {recipe.name} decides by no threshold, and its test is not "
            f"checked; leave {name} out"
        )
    drawn = reviewing.draw_test(run_folder, check, seed) if recipe.decides and answers is None else None
    if answers is not None:
        print(reviewing.take_answers(run_folder, answers))
    if database is not None and drawn is not None:
        with extra("serve"):
            from tutelage.production.audits import draw_check
            from tutelage.production.decisions import DecisionLog
        with DecisionLog(database) as log:
            print(draw_check(log.database, run_folder, seed=seed).summary())
    page, doubted = reviewing.write_page(run_folder)
    told = pluralise(doubted, "label is in doubt", "labels are in doubt")
    print(f"{told}: {page}, and {run_folder / 'relabel.csv'}")
    if drawn is not None:
        listed = pluralise(len(drawn), "test image to check is", "test images to check are")
        print(
            f"{listed} listed in {page.parent / reviewing.CHECK}: fill in the column label, then\n"
            f"  tutelage review {run_folder} --answers {page.parent / reviewing.CHECK}"
        )
    elif recipe.decides and answers is None:
        print("the test's true labels are known (column true_label), so that none is drawn to be checked")
