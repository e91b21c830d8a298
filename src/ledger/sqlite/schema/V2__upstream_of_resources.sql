-- Which upstream has what a call has made; none for what was made before upstreams had names.
ALTER TABLE resources ADD COLUMN upstream TEXT;
