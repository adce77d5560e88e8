"""Keep values that another task has returned from being rendered as templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import BaseOperator, Context

    _Base = BaseOperator
else:
    _Base = object


class LiteralMappedValues(_Base):
    """
    Use the values of ``expand_kwargs(task.output)`` as they are.

    Airflow does not render what ``expand(text=task.output)`` maps, but it does render what ``expand_kwargs`` maps: a
    text such as ``{{ conn.mps_default.password }}`` in a manifest would be replaced by the password. Values that are
    written in the DAG, in ``partial`` or in a list of dicts, are rendered as usual.
    """

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        names = [name for name in template_fields if not _is_returned_by_task(self, name, context)]
        super()._do_render_template_fields(parent, names, context, jinja_env, seen_oids)


def _is_returned_by_task(operator: BaseOperator, name: str, context: Context) -> bool:
    """Return whether ``expand_kwargs`` has set a field to a value that another task has returned."""
    if not operator.has_dag():
        return False
    mapped: Any = operator.dag.get_task(operator.task_id)
    kwargs = getattr(getattr(mapped, "expand_input", None), "value", None)
    if isinstance(kwargs, Sequence):  # a list in the DAG, of dicts or of outputs of tasks
        kwargs = kwargs[context["ti"].map_index or 0]
    if kwargs is None or isinstance(kwargs, Mapping):  # not mapped, or mapped by `expand` or by a dict in the DAG
        return False
    group = operator.task_group
    written = {
        **operator.dag.default_args,
        **(group.default_args if group and group.default_args else {}),
        **(mapped.partial_kwargs.get("default_args") or {}),
        **mapped.partial_kwargs,
    }
    return bool(name not in written or getattr(operator, name) != written[name])
