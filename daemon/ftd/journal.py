"""Reading journals: runs of whole, verified records as raw bytes, and the doorbells that ring when one has grown.

    reader = JournalReader(path)                  one per file, may be shared by any number of subscribers
    run = await reader.fetch(after_seq, limit)    Run(data, first_seq, count); an empty run: nothing there yet
    reader.count                                  records known so far, the last seq

    with doorbells.bell(run_directory) as bell:   one bell per subscriber; doorbells.run() is a task of the daemon
        await bell.wait()                         something was written since the last wait, or a second has passed
    doorbells.ring(run_directory)                 wakes its subscribers, e.g. when the job's state has changed
"""
