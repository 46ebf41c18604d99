def processes(setup):
    raise NotImplementedError
