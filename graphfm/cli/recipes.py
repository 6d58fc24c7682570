"""``graphfm recipes list | show | validate``."""

from __future__ import annotations

from typing import Annotated

import typer

from graphfm.cli.terminal import next_step, note, show, show_json, table
from graphfm.errors import RecipeError

app = typer.Typer(no_args_is_help=True, help="Show and check recipes of pretraining runs.")


@app.command("list")
def list_recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the recipes that come with graphfm."""
    from graphfm.config.load import recipe_names, shipped
    from graphfm.config.yaml_text import read_yaml

    about = {}
    for name in recipe_names() + recipe_names(incontext=True):
        content = read_yaml(shipped("recipes") / f"{name}.yaml")
        about[name] = " ".join(str(content.get("about", "")).split())
    if as_json:
        show_json({"recipes": about})
        return
    rows = [[name, text.split(". ")[0].rstrip(".")] for name, text in about.items()]
    show(table(rows, head=["recipe", "about"]))
    next_step("graphfm recipes show demo")


@app.command("show")
def show_recipe(
    recipe: Annotated[str, typer.Argument(help="A name (`graphfm recipes list`) or a .yaml file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Change keys of the recipe: train.steps=500"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a recipe with all inherited and default values, as YAML."""
    from graphfm.config.load import is_incontext, load_incontext, load_recipe

    load = load_incontext if is_incontext(recipe) else load_recipe
    resolved = load(recipe, overrides or [])
    if as_json:
        show_json(resolved.model_dump(mode="json"))
    else:
        show(resolved.to_yaml().rstrip())
        next_step("graphfm pretrain --dry-run", recipe, *(overrides or []))


@app.command("validate")
def validate(
    files: Annotated[
        list[str] | None, typer.Argument(help="Names or .yaml files. Default: all shipped recipes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check recipes: keys, ranges of values, and whether the mixture exists."""
    from graphfm.config.load import is_incontext, load_incontext, load_recipe, recipe_names
    from graphfm.graphs.catalog.catalog import Catalog

    catalog = Catalog.read()
    names = files or recipe_names() + recipe_names(incontext=True)
    faults: dict[str, str] = {}
    for name in names:
        try:
            if is_incontext(name):
                catalog.mixture(load_incontext(name).tasks.mixture)
            else:
                catalog.mixture(load_recipe(name).data.mixture)
        except ValueError as error:  # RecipeError and DataError: report all faulty recipes
            faults[name] = str(error)
    if as_json:
        show_json({"checked": len(names), "faults": faults})
    for name, text in faults.items():
        note(f"{name}\n{text}")
    if faults:
        raise RecipeError("GFM203", f"{len(faults)} of {len(names)} recipes are wrong, see above")
    note(f"{len(names)} recipes checked, no errors")
    next_step("graphfm pretrain --dry-run", files[0] if files else "demo")
