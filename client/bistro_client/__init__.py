"""The filer's program ``bistro`` and the library behind it.

``submitting.Submitter`` submits, resumes and watches; ``verifying`` checks files offline. The
command line in ``cli`` only reads options and shows what the library does.
"""
