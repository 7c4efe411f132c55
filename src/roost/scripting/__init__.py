"""A farm in scripts and notebooks: what `import roost` offers, on top of `roost.remote`.

    farm        connect, Farm: submit and find jobs, wait for them
    jobs        Job: one job, as it was when last looked at
    nodes       Node: one machine of the farm
    submission  from a command and properties to a specification
    progress    progress as it happens: on a terminal, in a notebook, in a log
    ranges      1-100x2: frames and job ids as people write them

The command line uses the last three too, and names nodes by the same rule, so that both ways mean
the same.
"""
