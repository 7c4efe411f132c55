"""The durable record of a farm: one database and the output files of its jobs.

`schema` says what a row is, `rows` turns records into rows and back, `queries` holds every named
read, `database` owns the engine, the writer thread and the readers, `output` keeps what jobs
print. The store saves what the core decided and answers questions about it; it decides nothing.
"""
