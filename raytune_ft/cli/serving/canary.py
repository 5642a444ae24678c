"""Verb `canary`: sets or shows which share of an adapter's requests its challenger gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raytune_ft.cli.output import console, emit
from raytune_ft.cli.serving.registry import DEFAULT_REGISTRY, AsJson, RegistryOption, open_with

if TYPE_CHECKING:
    from raytune_ft.registry.traffic import Traffic


def canary(
    adapter: Annotated[str, typer.Argument(help="The adapter's name.")],
    challenger: Annotated[
        int | None, typer.Option(min=0, max=100, help="Percent of the requests to the adapter that it gets.")
    ] = None,
    sticky: Annotated[bool, typer.Option("--sticky", help="Keep each user with one version.")] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="The champion answers all; ask the challenger its share besides, or all.")
    ] = False,
    off: Annotated[bool, typer.Option("--off", help="End it: the champion answers all.")] = False,
    registry: RegistryOption = DEFAULT_REGISTRY,
    as_json: AsJson = False,
) -> None:
    """Give an adapter's challenger a share of the requests, or show the present shares."""
    from raytune_ft.errors import InputError
    from raytune_ft.registry.traffic import canary as rule_for
    from raytune_ft.registry.traffic import read_traffic, set_traffic

    opened = open_with(adapter, registry)
    if off and (challenger is not None or sticky or shadow):
        raise InputError("--off", "ends the canary and goes with no other option", "leave one of them out")
    if sticky and challenger is None and not shadow:
        raise InputError("--sticky", "says how a share is drawn, not which", "add --challenger PERCENT")
    if off:
        set_traffic(opened, adapter, None, command=f"raytune-ft canary {adapter} --off")
    elif challenger is not None or shadow:
        percent = 100 if challenger is None else challenger
        options = f" --challenger {percent}" + " --sticky" * sticky + " --shadow" * shadow
        rule = rule_for(percent, by="user" if sticky else "request", shadow=shadow)
        set_traffic(opened, adapter, rule, command=f"raytune-ft canary {adapter}{options}")
    now, aliases = read_traffic(opened, adapter), opened.aliases(adapter)
    emit(
        {"adapter": adapter, "aliases": aliases, "traffic": now.to_json() if now else None},
        as_json,
        lambda: console.print(_words(adapter, now, aliases), markup=False, soft_wrap=True),
    )


def _words(adapter: str, rule: Traffic | None, aliases: dict[str, int]) -> str:
    champion = f"champion {adapter}@{aliases['champion']}" if "champion" in aliases else "no champion yet"
    if rule is None:
        return f"{adapter}: no canary; {champion} answers all" if "champion" in aliases else f"{adapter}: {champion}"
    share = rule.shares.get("challenger", 0)
    challenger = f"challenger {adapter}@{aliases.get('challenger')}"
    of_what = "users" if rule.by == "user" else "requests"
    if rule.shadow:
        return f"{adapter}: {champion} answers all; {challenger} is asked besides for {share} % of the {of_what}"
    return f"{adapter}: {challenger} answers {share} % of the {of_what}, {champion} the rest"
