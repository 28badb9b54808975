CREATE TABLE accounts (id TEXT PRIMARY KEY, name TEXT NOT NULL, provider TEXT DEFAULT 'anthropic', api_key TEXT, refresh_token TEXT, access_token TEXT, expires_at INTEGER, created_at INTEGER NOT NULL, priority INTEGER DEFAULT 0, paused INTEGER DEFAULT 0, custom_endpoint TEXT, model_mappings TEXT, pause_reason TEXT);
INSERT INTO accounts VALUES ('0', 'gpt', 'openai-compatible', 'sk-test-a', '', NULL, NULL, 1, 0, 0, 'https://gpt.example', NULL, NULL),
  ('1', 'br', 'bedrock', NULL, '', NULL, NULL, 1, 0, 0, 'bedrock:us', NULL, NULL),
  ('2', 'vx', 'vertex-ai', NULL, '', NULL, NULL, 1, 0, 0, NULL, NULL, NULL),
  ('3', 'cdx', 'codex', NULL, 'sk-test-b', NULL, NULL, 1, 0, 0, NULL, NULL, NULL),
  ('4', 'ali', 'alibaba-coding-plan', 'sk-test-c', '', NULL, NULL, 1, 0, 0, NULL, '{"claude-sonnet-5":["qwen-a","qwen-b"]}', NULL),
  ('5', 'new', 'later-thing', 'sk-test-d', '', NULL, NULL, 1, 0, 0, NULL, NULL, NULL);
