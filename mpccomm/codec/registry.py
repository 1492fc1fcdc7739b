"""`Serialization`: classes of the user, and values as bytes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

from mpccomm.codec import archive, classes, records, signatures
from mpccomm.codec.classes import Entry, Serialized
from mpccomm.codec.decoder import decode
from mpccomm.codec.encoder import encode
from mpccomm.codec.records import Form
from mpccomm.errors import AnnotationError

Class = TypeVar("Class", bound=type)


@runtime_checkable
class SupportsSerialization(Protocol):
    """A class that says itself how its instances are sent.

    Both methods have to take keyword arguments: ``serialize`` is told the ``destination`` of the message, and
    ``deserialize`` its ``origin``.
    """

    def serialize(self, **kwargs: Any) -> Any:
        """Return a value that can be sent (or that consists of instances of registered classes) and stands for this one."""

    @staticmethod
    def deserialize(obj: Any, **kwargs: Any) -> Any:
        """Return the instance that *obj*, which ``serialize`` returned at the sender, stands for."""


class MissingMethodError(AnnotationError, AttributeError):
    """The class has no ``serialize`` or ``deserialize``, and is of no kind that needs none."""


class Serialization:
    """How instances of the user's classes travel. The table is one for the process; nothing here is instantiated."""

    @staticmethod
    def register_class(
        obj_class: Class, check_annotations: bool = True, overwrite: bool = False, *, name: str | None = None
    ) -> Class:
        """Make instances of *obj_class* (exactly: not of its subclasses) something that can be sent.

        The class has methods as in `SupportsSerialization`. A dataclass, a namedtuple and an Enum do without: they
        travel as their fields, or as the member's name, and no code of theirs (``__post_init__``) runs when they are
        built again; an instance with attributes that are no fields is refused when it is sent. *check_annotations*
        verifies that the methods are annotated, fit each other, and take ``**kwargs``. *name* is the name on the wire
        if not the class's own; it has to be the same at all parties.

        Returns the class, so that this can decorate it. Raises `RepetitionError` (a class of that name is registered,
        and *overwrite* is not set), `AnnotationError` (also a TypeError) or TypeError.
        """
        if not isinstance(obj_class, type):
            raise TypeError(f"register_class takes a class, not an instance of {type(obj_class).__qualname__}")
        form = _form(obj_class)
        serialize, deserialize = form[:2] if form else (obj_class.serialize, obj_class.deserialize)  # type: ignore[attr-defined]
        if check_annotations and form is None:
            _check_static(obj_class)
            signatures.check(serialize, deserialize, [obj_class])
        classes.add(Entry(name or obj_class.__name__, obj_class, serialize, deserialize, form), overwrite)
        return obj_class

    @staticmethod
    def register(
        serializer: Callable[..., object],
        deserializer: Callable[..., object],
        *types: type | str,
        check_annotations: bool = True,
        overwrite: bool = False,
        name: str | None = None,
    ) -> None:
        """The same for classes that cannot have methods of their own.

        *serializer* takes the instance, *deserializer* what the other returned, both take keyword arguments. *types*
        are classes, or names of classes; *name* is the name on the wire where there is one type.
        """
        for function in (serializer, deserializer):
            if not callable(function):
                raise TypeError(f"register takes functions, not {type(function).__qualname__}")
        if not types or (name is not None and len(types) > 1):
            raise TypeError("register takes the types (and a name= for a single one)")
        kinds = [kind for kind in types if isinstance(kind, type)]
        if check_annotations:
            signatures.check(serializer, deserializer, kinds)
        for kind in types:
            if isinstance(kind, type):
                classes.add(Entry(name or kind.__name__, kind, serializer, deserializer), overwrite)
            else:
                classes.add(Entry(name or kind, None, serializer, deserializer), overwrite)

    @staticmethod
    def clear_serialization_logic(reload_defaults: bool = True) -> None:
        """Forget every registered class. (What the library can send by itself, it can always send.)"""
        classes.clear()

    @staticmethod
    def serialize(obj: object, **kwargs: Any) -> object:
        """*obj* in a form that can be part of what a ``serialize`` method returns.

        An instance of a registered class is serialised at once, with *kwargs*; any other value is its own form.
        """
        entry = classes.of(obj)
        return obj if entry is None else Serialized(entry.name, entry.serialize(obj, **kwargs))

    @staticmethod
    def deserialize(obj: object, **kwargs: Any) -> Any:
        """Return the value of such a form. (What a ``deserialize`` method receives has been through this already.)"""
        if not isinstance(obj, Serialized):
            return obj
        entry = classes.named(obj.name)
        if entry is None:
            raise TypeError(f"no class is registered under the name {obj.name!r}")
        return entry.deserialize(obj.payload, **kwargs)

    @staticmethod
    def pack(obj: object, option: int | None = None, **kwargs: Any) -> bytes:
        """Return *obj* as one string of bytes, to be stored; *kwargs* go to ``serialize`` methods. Raises `EncodingError`."""
        return archive.join(encode(obj, option=option, context=kwargs).segments)

    @staticmethod
    def unpack(data: bytes | bytearray | memoryview, **kwargs: Any) -> Any:
        """Return the value that `pack` made *data* of; *kwargs* go to ``deserialize`` methods. Raises `DecodingError`.

        Bytes that tno.mpc.communication 4.x has packed are read as well.
        """
        if archive.is_archive(data):
            return decode(archive.split(data), context=kwargs)
        from mpccomm.codec import tno

        return tno.unpack(data, kwargs)[1]


def _form(kind: type) -> Form | None:
    """Return how instances of a class without methods travel; None for a class that has both."""
    missing = [name for name in ("serialize", "deserialize") if not hasattr(kind, name)]
    if not missing:
        return None
    form = records.form(kind) if len(missing) == 2 else None
    if form is None:
        why = "; a dataclass that is a builtin type as well needs both" if dataclasses.is_dataclass(kind) else ""
        raise MissingMethodError(f"{kind.__qualname__} has no method {missing[0]}{why}; see SupportsSerialization")
    return form


def _check_static(kind: type) -> None:
    if not isinstance(inspect.getattr_static(kind, "deserialize"), staticmethod | classmethod):
        raise AnnotationError(f"{kind.__qualname__}.deserialize has to be a staticmethod")
    if isinstance(inspect.getattr_static(kind, "serialize"), staticmethod | classmethod):
        raise AnnotationError(f"{kind.__qualname__}.serialize has to be an ordinary method")
