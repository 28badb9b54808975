CREATE TABLE accounts (id TEXT PRIMARY KEY, name TEXT NOT NULL, provider TEXT DEFAULT 'anthropic', api_key TEXT, refresh_token TEXT, access_token TEXT, expires_at INTEGER, created_at INTEGER NOT NULL, priority INTEGER DEFAULT 0, paused INTEGER DEFAULT 0, custom_endpoint TEXT, model_mappings TEXT, pause_reason TEXT);
INSERT INTO accounts VALUES ('0', 'max-1', 'anthropic', NULL, 'sk-ant-ort-test-a', NULL, NULL, 1, 0, 0, NULL, NULL, NULL),
  ('1', 'max-2', 'anthropic', NULL, 'sk-ant-ort-test-b', NULL, NULL, 1, 0, 0, NULL, NULL, NULL);
