PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE providers (
                id TEXT NOT NULL,
                app_type TEXT NOT NULL,
                name TEXT NOT NULL,
                settings_config TEXT NOT NULL,
                website_url TEXT,
                category TEXT,
                created_at INTEGER,
                sort_index INTEGER,
                notes TEXT,
                icon TEXT,
                icon_color TEXT,
                meta TEXT NOT NULL DEFAULT '{}',
                is_current BOOLEAN NOT NULL DEFAULT 0,
                in_failover_queue BOOLEAN NOT NULL DEFAULT 0,
                PRIMARY KEY (id, app_type)
            );
INSERT INTO providers VALUES('1','claude','Dump','{"env": {"ANTHROPIC_BASE_URL": "https://gw.example", "ANTHROPIC_AUTH_TOKEN": "sk-test-a"}}',NULL,NULL,1,2,NULL,NULL,NULL,'{}',1,0);
INSERT INTO providers VALUES('2','claude','Hex',CAST(X'7b22656e76223a207b22414e5448524f5049435f424153455f55524c223a202268747470733a2f2f67772e6578616d706c65222c2022414e5448524f5049435f415554485f544f4b454e223a2022736b2d746573742d62227d7d' AS TEXT),NULL,NULL,1,1,NULL,NULL,NULL,'{}',1,0);
COMMIT;
