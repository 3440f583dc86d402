"""From run records to what people look at: ``summary`` and ``text`` make tables, ``style`` and ``plots`` pictures."""
