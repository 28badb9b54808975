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
INSERT INTO "providers" ("id", "app_type", "name", "settings_config", "website_url", "category", "created_at", "sort_index", "notes", "icon", "icon_color", "meta", "is_current", "in_failover_queue") VALUES ('1', 'claude', 'Nv', '{"env": {"ANTHROPIC_BASE_URL": "https://integrate.example", "ANTHROPIC_AUTH_TOKEN": "sk-test-a"}}', NULL, 'custom', 1, 0, NULL, NULL, NULL, '{"apiFormat": "openai_chat"}', 0, 0),('2', 'claude', 'Ok', '{"env": {"ANTHROPIC_BASE_URL": "https://gw.example", "ANTHROPIC_API_KEY": "sk-test-b"}}', NULL, 'custom', 1, 1, NULL, NULL, NULL, '{"apiKeyField": "ANTHROPIC_API_KEY"}', 0, 0);
