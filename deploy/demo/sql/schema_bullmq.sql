-- Beside the queue on Redis: how often each job was done, so that none is lost or done twice.
CREATE TABLE jobs_done (
    queue text NOT NULL,
    job   text NOT NULL,
    times integer NOT NULL,
    PRIMARY KEY (queue, job)
);

GRANT SELECT, INSERT, UPDATE ON jobs_done TO starforge_etl, starforge_web;
