"""The run reached over HTTP: endpoints, metrics, the view in a browser.

    server (a thread) ──► gate: host, origin, token ──► routes ──► Desk ──► the run's thread
                                                           └─ POST ──► Inbox ──► an act frame

Nothing here touches a run: what is looked at is a frozen value that the run's own thread made
between two frames (bot.run.desk), and what is done to it is an act among its frames. FastAPI and
uvicorn (the extra `bot[api]`) are loaded with `app` and `server`, once somebody chose --api.
"""
