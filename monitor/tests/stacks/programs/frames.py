# For gdb: every frame of every thread, a line each. `bt` would do, but for the frames of tail calls, which gdb works
# out of the code: they are on no stack.
import gdb

gdb.execute("set backtrace past-main on")
for thread in gdb.selected_inferior().threads():
    thread.switch()
    print("thread", thread.ptid[1])
    frame = gdb.newest_frame()
    while frame is not None:
        if frame.type() != gdb.TAILCALL_FRAME:
            name = "?" if frame.name() is None else frame.name()
            print("frame", "<signal>" if frame.type() == gdb.SIGTRAMP_FRAME else name)
        try:
            frame = frame.older()
        except gdb.error:
            break
