-- One row for each thing that is to have one object in the registry: a batch, a resource.
CREATE TABLE publications (
    -- The thing's own TypeID, under which it is registered.
    id text COLLATE "C" PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    what text COLLATE "C" NOT NULL,
    name text NOT NULL,
    job_id text COLLATE "C",
    -- What a provisioner said of a resource; a batch's facts are gathered when they are needed.
    facts jsonb NOT NULL DEFAULT '{}',
    -- Grows with every change of the thing, and when a person asks for it once more.
    revision integer NOT NULL DEFAULT 1,
    -- The publisher is still to be told.
    due boolean NOT NULL DEFAULT true,
    state text COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (state IN (
        'pending', 'published', 'delayed', 'failed', 'withheld')),
    internal_id bigint,
    portal_url text,
    action text,
    error jsonb,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Since when this revision is asked for.
    asked_at timestamptz NOT NULL DEFAULT now(),
    told_at timestamptz,
    published_at timestamptz
);
CREATE INDEX publications_listed ON publications (project, id);
CREATE INDEX publications_due ON publications (asked_at) WHERE due;
CREATE INDEX publications_job ON publications (job_id) WHERE job_id IS NOT NULL;
