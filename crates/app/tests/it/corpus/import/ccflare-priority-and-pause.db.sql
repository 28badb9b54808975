CREATE TABLE accounts (id TEXT PRIMARY KEY, name TEXT NOT NULL, provider TEXT DEFAULT 'anthropic', api_key TEXT, refresh_token TEXT, access_token TEXT, expires_at INTEGER, created_at INTEGER NOT NULL, priority INTEGER DEFAULT 0, paused INTEGER DEFAULT 0, custom_endpoint TEXT, model_mappings TEXT, pause_reason TEXT);
INSERT INTO accounts VALUES ('0', 'late', 'zai', 'sk-test-b', '', NULL, NULL, 1, 5, 0, NULL, '{"opus":"glm-5","sonnet":"glm-5","haiku":"air"}', NULL),
  ('1', 'soon', 'claude-console-api', 'sk-ant-test-a', '', NULL, NULL, 1, 1, 0, NULL, NULL, NULL),
  ('2', 'rest', 'minimax', 'sk-test-c', '', NULL, NULL, 1, 2, 1, NULL, '{"sonnet":"M3"}', NULL);
