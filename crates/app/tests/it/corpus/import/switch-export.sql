-- CC Switch SQLite 导出
-- 生成时间: 2026-10-01 10:00:00
-- user_version: 12
PRAGMA foreign_keys=OFF;
PRAGMA user_version=12;
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
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT);
INSERT INTO "providers" ("id", "app_type", "name", "settings_config", "website_url", "category", "created_at", "sort_index", "notes", "icon", "icon_color", "meta", "is_current", "in_failover_queue") VALUES ('1', 'claude', '国内 "Kimi"', '{"env": {"ANTHROPIC_BASE_URL": "https://api.moonshot.cn/anthropic", "ANTHROPIC_AUTH_TOKEN": "sk-test-a", "ANTHROPIC_MODEL": "kimi-k2"}}', NULL, 'custom', 1, 0, NULL, NULL, NULL, '{}', 0, 0),('2', 'claude', 'It''s; -- mine', '{"env": {"ANTHROPIC_BASE_URL": "https://gw.example", "ANTHROPIC_AUTH_TOKEN": "sk-test-b"}}', NULL, 'custom', 1, 1, NULL, NULL, NULL, '{}', 0, 0);
INSERT INTO "settings" ("key", "value") VALUES ('a', 'b;c');
COMMIT;
PRAGMA foreign_keys=ON;
